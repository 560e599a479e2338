// Puts new words in place of old ones, tells the server what is in view, and keeps what the reader opened, sorted,
// folded, zoomed and scrolled to.
(() => {
  "use strict"
  const PATIENCE_S = 6
  const AHEAD = "300px"
  const place = "steadygrad:" + document.querySelector("[data-run]").dataset.run
  const told = () => document.getElementById("told")
  let silent = 0
  let ready = false

  function put(key, html) {
    const box = document.getElementById(`live-${key}`)
    if (box === null) return
    const before = new Map([...box.querySelectorAll("details[id]")].map((one) => [one.id, one.open]))
    const scrolled = box.querySelector(".wide")?.scrollTop ?? 0
    const focused = box.contains(document.activeElement) ? document.activeElement.closest("[id]")?.id : undefined
    box.innerHTML = html
    for (const one of box.querySelectorAll("details[id]")) {
      if (before.has(one.id)) one.open = before.get(one.id)
      else if (key === "findings") told().textContent = `New finding: ${one.querySelector("b").textContent}.`
    }
    if (scrolled) box.querySelector(".wide").scrollTop = scrolled
    focus(focused)
  }

  // What is said beside a picture: plain text.
  function say(what, key, text) {
    const section = document.getElementById(key).closest("section")
    section.querySelector(what === "hint" ? ".hint" : ".keys").textContent = text
    if (what === "words") section.querySelector(".canvas").ariaLabel = `${document.getElementById(key).textContent}. ${text}`
  }

  function focus(id) {
    const again = id ? document.getElementById(id) : null
    const target = again?.matches("button") ? again : again?.querySelector("summary, a")
    target?.focus({preventScroll: true})
  }

  const models = () => typeof Bokeh === "undefined" ? [] : Bokeh.documents.flatMap((doc) => [...doc._all_models.values()])
  const named = (name) => models().find((model) => model.name === name)
  const sliders = () => models().filter((model) => model.type === "Slider" && model.tags.length > 0)
  const entries = () => models().filter((model) => model.type === "LegendItem").map((item) => [item.label.value, item.renderers])
  const tables = () => [...document.querySelectorAll(".wide")].map((one) => [one.closest("[id]").id, one])

  // Also when the pictures are built another way now (a first loss, a first finding) and the page loads itself again.
  function keep() {
    if (!ready) return
    const steps = named("steps")
    const zoomed = steps?.bounds && (steps.start > steps.bounds[0] || steps.end < steps.bounds[1])
    const left = {
      open: [...document.querySelectorAll("details[id]")].map((one) => [one.id, one.open]),
      zoom: zoomed ? {start: steps.start, end: steps.end, newest: steps.end >= steps.bounds[1]} : null,
      order: named("order")?.value,
      folded: named("heat map")?.tags[0]?.folded,
      wishes: sliders().map((one) => [one.name, one.tags[0].wish]),
      hidden: entries().filter(([, lines]) => lines.length > 0 && lines.every((line) => !line.visible)).map(([label]) => label),
      tables: tables().map(([id, one]) => [id, one.scrollTop]),
      focused: document.activeElement?.closest("[id]")?.id,
      top: scrollY,
    }
    sessionStorage.setItem(place, JSON.stringify(left))
  }

  function asLeft() {
    const left = JSON.parse(sessionStorage.getItem(place) ?? "null")
    if (left === null) return
    for (const [id, open] of left.open) {
      const one = document.getElementById(id)
      if (one !== null) one.open = open
    }
    zoom(left.zoom)
    heat(left)
    for (const [name, wish] of left.wishes) slide(named(name), wish)
    for (const [label, lines] of entries()) for (const line of lines) if (left.hidden.includes(label)) line.visible = false
    for (const [id, top] of left.tables) tables().filter(([one]) => one === id).forEach(([, one]) => { one.scrollTop = top })
    scrollTo({top: left.top, behavior: "instant"})
    focus(left.focused)
  }

  function zoom(wish) {
    const steps = named("steps")
    if (!wish || !steps?.bounds) return
    const later = wish.newest ? steps.bounds[1] - wish.end : 0
    steps.setv({start: wish.start + later, end: wish.end + later})
  }

  function heat({order, folded}) {
    const [plot, chosen, cells, tensors] = ["heat map", "order", "cells", "tensors"].map(named)
    if (plot === undefined || !order || !folded) return
    const groups = tensors.tags[0].groups.length
    plot.tags = [{folded: folded.filter((group) => group < groups)}]
    chosen.value = order
    cells.properties.data.change.emit()
  }

  function slide(slider, wish) {
    if (slider === undefined || wish === null) return
    const every = named(slider.name.replace(/ slider$/, ""))
    slider.tags = [{...slider.tags[0], wish}]
    every.properties.data.change.emit()
  }

  // What is out of view waits: the server sends its numbers when the reader comes to it.
  const view = new Set()
  function look() {
    const attention = named("attention")
    if (attention !== undefined) attention.data = {key: document.hidden ? [] : ["page", ...view]}
  }
  const watcher = new IntersectionObserver((changes) => {
    for (const {target, isIntersecting} of changes) view[isIntersecting ? "add" : "delete"](target.getAttribute("aria-labelledby"))
    look()
  }, {rootMargin: AHEAD})

  // The server sends no other pictures before it hears that these are painted, and how long that took.
  function painted(number) {
    const begun = performance.now()
    requestAnimationFrame(() => requestAnimationFrame(() => {
      const attention = named("attention")
      if (attention !== undefined) attention.tags = [number, (performance.now() - begun) / 1000]
    }))
  }

  document.addEventListener("steadygrad:ready", () => {
    asLeft()
    ready = true
    for (const one of document.querySelectorAll(".picture")) watcher.observe(one.closest("section"))
    look()
  })
  addEventListener("pagehide", keep)
  document.addEventListener("visibilitychange", () => {
    silent = 0
    look()
  })
  document.addEventListener("steadygrad:live", (event) => {
    silent = 0
    document.getElementById("live-lost").hidden = true
    const {key, html} = event.detail
    if (key.includes("again")) { location.reload(); return }
    key.forEach((name, i) => {
      const [what, section] = name.split(":")
      if (section === undefined) put(name, html[i])
      else say(what, section, html[i])
    })
    if (key.includes("drawn")) painted(html[key.indexOf("drawn")])
  })
  // Seconds are counted one by one: a page that was held up itself hears first what came meanwhile.
  setInterval(() => {
    silent += 1
    if (!document.hidden && silent > PATIENCE_S) document.getElementById("live-lost").hidden = false
  }, 1000)
})()
