// Shows another step of the snowball.
const at = slider.value
const step = steps[at]
line.data = {...line.data, norm: profiles.data.norms[at]}
const [first, last] = [firsts[at], lasts[at]]
const part = telling[at] ? Array.from({length: last - first + 1}, (_, i) => first + i) : []
stretch.data = {depth: part, norm: part.map((i) => profiles.data.norms[at][i])}
bad.data = {depth: profiles.data.bad[at]}
note.text = notes[at]
slider.title = `step ${step.toLocaleString("en")}, choose another`
