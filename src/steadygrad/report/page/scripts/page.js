// What the page does besides its pictures: cards open from marks, pictures follow keys, colours follow the theme.
(() => {
  "use strict"
  const told = document.getElementById("told")
  const views = () => typeof Bokeh === "undefined" ? [] : [...Bokeh.index.roots]
  const documents = () => typeof Bokeh === "undefined" ? [] : Bokeh.documents
  const models = (name) => documents().flatMap((doc) => [...doc._all_models.values()].filter((model) => model.name === name))

  function open(place) {
    const card = document.getElementById(`finding-${place}`)
    if (card === null) return
    card.open = true
    card.scrollIntoView({block: "start"})
    card.querySelector("summary").focus({preventScroll: true})
    told.textContent = `Finding ${place} is open.`
  }
  document.addEventListener("steadygrad:finding", (event) => open(event.detail))

  // The marks once more as buttons: what the pointer does on the picture, the keyboard does here.
  const mark = (event) => event.target.closest?.(".mark") ?? null
  function ring(place) {
    for (const source of models("findings")) {
      const at = place === null ? -1 : source.data.number.indexOf(String(place))
      source.selected.indices = at < 0 ? [] : [at]
    }
  }
  function walk(from, to) {
    if (to === undefined) return
    from.tabIndex = -1
    to.tabIndex = 0
    to.focus()
  }
  function back(card) {
    const button = document.getElementById(card.id.replace("finding", "mark"))
    if (button === null) return
    const now = document.querySelector(".mark[tabindex='0']")
    if (now !== null) now.tabIndex = -1
    button.tabIndex = 0
    button.scrollIntoView({block: "center"})
    button.focus({preventScroll: true})
  }
  document.addEventListener("focusin", (event) => {
    const button = mark(event)
    if (button === null) return
    ring(button.dataset.finding)
    const [range] = models("steps")
    const step = Number(button.dataset.step)
    if (range === undefined || (step >= range.start && step <= range.end)) return
    const half = (range.end - range.start) / 2
    zoom(step - half, step + half)
  })
  document.addEventListener("focusout", (event) => { if (mark(event) !== null) ring(null) })
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return
    const button = mark(event)
    if (button !== null) {
      const all = [...button.closest("[data-marks]").querySelectorAll(".mark")]
      const at = all.indexOf(button)
      const moves = {ArrowLeft: at - 1, ArrowUp: at - 1, ArrowRight: at + 1, ArrowDown: at + 1, Home: 0, End: all.length - 1}
      if (moves[event.key] === undefined) return
      event.preventDefault()
      walk(button, all[moves[event.key]])
    } else if (event.key === "Escape") {
      const card = event.target.closest?.(".card")
      if (card) back(card)
    }
  })

  function zoom(from, to) {
    for (const range of models("steps")) {
      const [least, most] = range.bounds ?? [range.reset_start, range.reset_end]
      const width = Math.min(to - from, most - least)
      const start = Math.max(least, Math.min(from, most - width))
      range.setv({start, end: start + width})
    }
  }
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button")
    if (button === null) return
    if (button.matches(".mark")) open(button.dataset.finding)
    if (button.matches(".copy")) {
      const code = button.parentElement.querySelector("code").textContent
      const said = (text) => { button.textContent = text; button.removeAttribute("aria-label"); told.textContent = `${text}.` }
      const byHand = () => {
        getSelection().selectAllChildren(button.parentElement.querySelector("code"))
        said("Selected")
      }
      if (navigator.clipboard === undefined) byHand()
      else navigator.clipboard.writeText(code).then(() => said("Copied"), byHand)
    }
    if (button.matches(".show")) {
      const step = Number(button.dataset.step)
      const [range] = models("steps")
      if (range === undefined) return
      const reach = Math.max(20, (range.bounds[1] - range.bounds[0]) / 20)
      zoom(step - reach, step + reach)
      document.querySelector("[data-keys]")?.focus()
      told.textContent = `The course shows the steps around ${step}.`
    }
  })
  document.addEventListener("keydown", (event) => {
    // A click has put the focus inside a picture: its keys are those of the canvas around it, a control's are its own.
    const inside = event.composedPath()[0]
    if (inside.matches?.("input, select, button, .noUi-handle") || !event.target.closest?.("[data-keys]")) return
    if (event.ctrlKey || event.metaKey || event.altKey) return
    const [range] = models("steps")
    if (range === undefined) return
    const width = range.end - range.start
    const middle = (range.start + range.end) / 2
    const moves = {
      ArrowLeft: () => zoom(range.start - width / 4, range.end - width / 4),
      ArrowRight: () => zoom(range.start + width / 4, range.end + width / 4),
      "+": () => zoom(middle - width / 4, middle + width / 4),
      "=": () => zoom(middle - width / 4, middle + width / 4),
      "-": () => zoom(middle - width, middle + width),
      "0": () => zoom(-Infinity, Infinity),
      Escape: () => zoom(-Infinity, Infinity),
    }
    if (moves[event.key] === undefined) return
    event.preventDefault()
    if (event.key === "0" || event.key === "Escape") range.setv({start: range.bounds[0], end: range.bounds[1]})
    else moves[event.key]()
    const [first, last] = range.tags[0].steps
    told.textContent = `Steps ${Math.max(first, Math.ceil(range.start))} to ${Math.min(last, Math.floor(range.end))}.`
  })

  // Glyphs and legends take no colour from a style sheet: they are written again when the theme changes.
  function ink() {
    const color = getComputedStyle(document.documentElement).getPropertyValue("--quiet").trim()
    for (const doc of documents()) {
      for (const model of doc._all_models.values()) {
        if (model.tags?.includes("ink")) model.text_color = {value: color}
        if (model.type === "Legend") model.label_text_color = color
        if (model.type === "ColorBar") model.major_label_text_color = color
      }
    }
    for (const view of pictures()) view.request_repaint()
  }
  function pictures() {
    const found = []
    const walk = (view) => {
      if (typeof view.request_repaint === "function") found.push(view)
      for (const child of view.child_views ?? []) walk(child)
    }
    for (const view of views()) walk(view)
    return found
  }
  // What a picture is on paper: its canvases and what is said of the step it shows, without the controls around them.
  const CONTROLS = ["Select", "Slider", "Div"]
  const controlled = (view) => CONTROLS.includes(view.model.type) || (view.child_views ?? []).some(controlled)
  function forPaper(view) {
    if (view.model.type === "Div" || !controlled(view)) {
      const copy = document.createElement(view.model.type === "Div" ? "p" : "img")
      if (view.model.type === "Div") copy.textContent = view.model.text
      else {
        const {canvas} = view.export("png", true)
        // Pages are broken before an image is decoded: its size has to be known.
        copy.width = canvas.width
        copy.height = canvas.height
        copy.src = canvas.toDataURL()
      }
      copy.className = "copy-for-paper"
      return [copy]
    }
    return CONTROLS.includes(view.model.type) ? [] : view.child_views.flatMap(forPaper)
  }
  // Tab goes through what can be used: the canvas around pictures takes their keys, and a slider says its step.
  function reach() {
    for (const view of pictures()) for (const one of view.canvas_view?.shadow_el.querySelectorAll(".bk-events") ?? []) one.tabIndex = -1
    const walk = (view) => {
      const handle = view.model.type === "Slider" ? view.shadow_el.querySelector(".noUi-handle") : null
      if (handle !== null) speak(view.model, handle)
      for (const child of view.child_views ?? []) walk(child)
    }
    for (const view of views()) walk(view)
  }
  function speak(slider, handle) {
    const say = () => requestAnimationFrame(() => handle.setAttribute("aria-valuetext", slider.title.split(",")[0]))
    handle.setAttribute("aria-label", "step to show")
    say()
    slider.properties.value.change.connect(say)
  }
  // A legend of one line has no room on a narrow screen.
  const narrow = window.matchMedia("(max-width: 760px)")
  function fit() {
    for (const doc of documents()) for (const model of doc._all_models.values()) {
      if (model.type === "Legend") model.ncols = narrow.matches ? 2 : "auto"
    }
  }
  narrow.addEventListener("change", () => fit())
  const dark = window.matchMedia("(prefers-color-scheme: dark)")
  dark.addEventListener("change", () => ink())
  let closed = []
  window.addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details.card:not([open])")]
    for (const card of closed) card.open = true
    // A printer can't wait for a picture that fits the paper: it gets a copy of the one on the screen, in light colours.
    document.documentElement.classList.add("paper")
    ink()
    for (const view of pictures()) view.repaint()
    for (const view of views()) {
      document.querySelector(`[data-root-id="${view.model.id}"]`)?.before(...forPaper(view))
    }
  })
  window.addEventListener("afterprint", () => {
    for (const card of closed) card.open = false
    for (const copy of document.querySelectorAll(".copy-for-paper")) copy.remove()
    document.documentElement.classList.remove("paper")
    ink()
  })
  document.addEventListener("steadygrad:ready", () => { fit(); ink(); reach() })
})()
