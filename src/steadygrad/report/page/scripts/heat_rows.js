// Puts the heat map's rows in order, folds modules, and writes the labels beside them.
// Called when the order, a fold or the visible range changes.
//
// cells   source: `cells` [P x C] codes of all tensors, and where they lie
// shown   source: the picture that is drawn
// rows    source: one entry a row of the picture: name, detail, members
// strip   source: one entry a module beside the picture; `labels` the names that fit
// about   source: name, shape and keys to sort by of each tensor; its tag holds the modules
// state   which groups are folded: tags of the figure
const matrix = cells.data.cells[0]
const [P, C] = matrix.shape
const groups = about.tags[0].groups
const folded = new Set(plot.tags[0].folded)
const only_labels = what === "zoom" || (what === "begin" && plot.tags[0].ready)

function toggle(group) {
  if (folded.has(group)) folded.delete(group); else folded.add(group)
}

if (what === "fold") {
  const at = strip.selected.indices[0]
  if (at === undefined) return
  toggle(strip.data.group[at])
  strip.selected.indices = []
} else if (what === "choose") {
  const wish = chooser.value
  if (wish === "") return
  if (wish === "all") groups.forEach((group, i) => { if (group.count > 1) folded.add(i) })
  else if (wish === "none") folded.clear()
  else toggle(Number(wish))
  chooser.value = ""
}

function units() {
  const list = []
  groups.forEach((group, g) => {
    const members = Array.from({length: group.count}, (_, i) => group.first + i)
    if (folded.has(g)) list.push({group: g, members, name: group.name, detail: `${group.count} tensors, the largest of them`})
    else members.forEach((i) => list.push({group: g, members: [i], name: about.data.name[i], detail: about.data.shape[i]}))
  })
  const key = about.data[order.value]
  if (key === undefined) return list
  const best = (unit) => Math.max(...unit.members.map((i) => key[i]))
  return list.map((unit) => [best(unit), unit]).sort((a, b) => b[0] - a[0]).map((pair) => pair[1])
}

function paint(list) {
  const out = new matrix.constructor(new Uint16Array(list.length * C), [list.length, C])
  list.forEach((unit, row) => {
    const to = row * C
    for (const i of unit.members) {
      const from = i * C
      for (let c = 0; c < C; c++) if (matrix[from + c] > out[to + c]) out[to + c] = matrix[from + c]
    }
  })
  return out
}

function blocks(list) {
  const found = []
  list.forEach((unit, row) => {
    const last = found[found.length - 1]
    if (last !== undefined && last.group === unit.group) last.count += 1
    else found.push({group: unit.group, first: row, count: 1})
  })
  return found
}

function label() {
  const from = Math.min(plot.y_range.start, plot.y_range.end)
  const to = Math.max(plot.y_range.start, plot.y_range.end)
  const pixels = plot.inner_height / Math.max(to - from, 1e-9)
  const wide = pixels >= 12
  const marks = []
  if (wide || order.value !== "forward") {
    rows.data.name.forEach((name, row) => marks.push([row + 0.5, name]))
  } else {
    strip.data.y.forEach((y, i) => {
      const group = strip.data.group[i]
      marks.push([y, (folded.has(group) ? "▸ " : "▾ ") + groups[group].name])
    })
  }
  const kept = {y: [], text: []}
  let before = -Infinity
  for (const [y, name] of marks) {
    if (y < from || y > to || (y - before) * pixels < 13) continue
    before = y
    kept.y.push(y)
    kept.text.push(name.length > 17 ? "…" + name.slice(-16) : name)
  }
  labels.data = kept
}

if (!only_labels) {
  plot.tags = [{folded: [...folded], ready: true}]
  const list = units()
  const R = Math.max(list.length, 1)
  rows.data = {name: list.map((unit) => unit.name), detail: list.map((unit) => unit.detail)}
  const found = order.value === "forward" ? blocks(list) : []
  strip.data = {
    y: found.map((block) => block.first + block.count / 2),
    height: found.map((block) => block.count),
    group: found.map((block) => block.group),
    shade: found.map((block) => (block.group % 2 ? 0.28 : 0.12)),
  }
  const {x, dw} = cells.data
  shown.data = {...shown.data, image: [list.length ? paint(list) : matrix], x, dw, dh: [R]}
  const same = what === "data" && plot.y_range.bounds[1] === R
  plot.y_range.bounds = [0, R]
  plot.y_range.reset_start = R
  plot.y_range.reset_end = 0
  if (!same) plot.y_range.setv({start: R, end: 0})
}
label()
