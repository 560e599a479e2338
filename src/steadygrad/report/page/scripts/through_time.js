// Shows the gradient through time at another step: the one at index `at`.
lines.forEach((line, i) => { line.data = {time: passages.data[`time ${i}`][at], norm: passages.data[`norm ${i}`][at]} })
