// Writes what lies under the pointer. `part` says which: row, shape, steps or value.
const row = Math.max(0, Math.min(rows.data.name.length - 1, Math.floor(special_vars.y)))
if (part === "name") return rows.data.name[row]
if (part === "detail") return rows.data.detail[row]
const about = {start: cells.data.start[0], width: cells.data.width[0], floor: cells.data.floor[0]}
const column = Math.floor((special_vars.x + 0.5 - about.start) / about.width)
if (part === "steps") {
  const first = Math.ceil(about.start + column * about.width)
  const last = Math.max(first, Math.ceil(about.start + (column + 1) * about.width) - 1)
  return first === last ? first.toLocaleString("en") : `${first.toLocaleString("en")} to ${last.toLocaleString("en")}`
}
const image = shown.data.image[0]
const code = image[row * image.shape[1] + Math.max(0, Math.min(image.shape[1] - 1, column))]
if (code === 0) return "no step"
if (code === 1) return "zero, or no gradient"
if (code === 65535) return "non-finite"
const value = Math.exp((code - 32770) / 256)
return (code <= about.floor ? "at most " : "") + value.toExponential(2)
