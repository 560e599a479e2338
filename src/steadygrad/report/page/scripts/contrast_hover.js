// Writes what lies under the pointer of a comparison. `part` says which: name, steps or value.
const row = Math.max(0, Math.min(rows.data.name.length - 1, Math.floor(special_vars.y)))
if (part === "name") return rows.data.name[row]
const column = Math.floor((special_vars.x + 0.5 - about.start) / about.width)
if (part === "steps") return Math.ceil(about.start + column * about.width).toLocaleString("en")
const image = shown.data.image[0]
const at = row * image.shape[1] + Math.max(0, Math.min(image.shape[1] - 1, column))
if (shown.data.bad[0][at] === 2) return "one is non-finite"
if (shown.data.bad[0][at] === -1) return "not in both"
return "x" + Math.exp(image[at] / 256).toPrecision(3)
