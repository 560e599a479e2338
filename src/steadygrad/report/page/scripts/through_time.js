// Shows the gradient through time at another step: the one at index `at`.
lines.forEach((line, i) => { line.data = {time: every.data[`time ${i}`][at], norm: every.data[`norm ${i}`][at]} })
