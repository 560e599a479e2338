// Puts new words in place of old ones, and keeps what the reader opened, zoomed and scrolled to.
(() => {
  "use strict"
  const PATIENCE_MS = 6000
  const place = "steadygrad:" + location.href
  const told = () => document.getElementById("told")
  let heard = performance.now()

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
    const again = focused ? document.getElementById(focused) : null
    const target = again?.matches("button") ? again : again?.querySelector("summary, a")
    target?.focus({preventScroll: true})
  }

  function range() {
    if (typeof Bokeh === "undefined") return undefined
    return Bokeh.documents.flatMap((doc) => [...doc._all_models.values()]).find((model) => model.name === "steps")
  }

  // The pictures are built another way now (a first loss, a first finding): load the page again, as it was left.
  function again() {
    const steps = range()
    const zoomed = steps?.bounds && (steps.start > steps.bounds[0] || steps.end < steps.bounds[1])
    const open = [...document.querySelectorAll("details[id]")].map((one) => [one.id, one.open])
    const zoom = zoomed ? [steps.start, steps.end] : null
    sessionStorage.setItem(place, JSON.stringify({open, zoom, top: scrollY}))
    location.reload()
  }

  function asLeft() {
    const left = JSON.parse(sessionStorage.getItem(place) ?? "null")
    sessionStorage.removeItem(place)
    if (left === null) return
    for (const [id, open] of left.open) {
      const one = document.getElementById(id)
      if (one !== null) one.open = open
    }
    if (left.zoom !== null) range()?.setv({start: left.zoom[0], end: left.zoom[1]})
    scrollTo({top: left.top, behavior: "instant"})
  }

  document.addEventListener("steadygrad:ready", asLeft)
  document.addEventListener("steadygrad:live", (event) => {
    heard = performance.now()
    document.getElementById("live-lost").hidden = true
    const {key, html} = event.detail
    key.forEach((name, i) => (name === "again" ? again() : put(name, html[i])))
  })
  setInterval(() => {
    if (performance.now() - heard > PATIENCE_MS) document.getElementById("live-lost").hidden = false
  }, 1000)
})()
