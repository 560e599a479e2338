// Shows another step of the snowball: the one at index `at`.
const norms = Float64Array.from(every.data.logs[at], (log) => 10 ** log)
line.data = {...line.data, norm: norms}
const [first, last] = [every.data.first[at], every.data.last[at]]
const part = every.data.telling[at] ? Array.from({length: last - first + 1}, (_, i) => first + i) : []
stretch.data = {depth: part, norm: part.map((i) => norms[i])}
bad.data = {depth: every.data.bad[at]}
marks[0].visible = part.length > 0
marks[1].visible = every.data.bad[at].length > 0
