// Shows another step of the snowball: the one at index `at`.
const norms = Float64Array.from(profiles.data.logs[at], (log) => 10 ** log)
line.data = {...line.data, norm: norms}
const [first, last] = [firsts[at], lasts[at]]
const part = telling[at] ? Array.from({length: last - first + 1}, (_, i) => first + i) : []
stretch.data = {depth: part, norm: part.map((i) => norms[i])}
bad.data = {depth: profiles.data.bad[at]}
marks[0].visible = part.length > 0
marks[1].visible = profiles.data.bad[at].length > 0
