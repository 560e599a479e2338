// Shows one step of the source `every`: the chosen one, when the slider moves; when the steps themselves are renewed,
// the one the reader wished for, or the nearest to it. The slider's tag remembers the wish, and where it was put for it.
const {step, shown} = every.data
const nearest = (wish) => step.reduce((best, one, i) => (Math.abs(one - wish) < Math.abs(step[best] - wish) ? i : best), 0)
if (!renewed && slider.value !== slider.tags[0].at) {
  slider.tags = [{wish: shown[slider.value] ? null : step[slider.value], at: slider.value}]
} else if (renewed) {
  const {wish} = slider.tags[0]
  const place = wish === null ? shown.indexOf(true) : nearest(wish)
  slider.tags = [{wish, at: place}]
  slider.setv({end: Math.max(step.length - 1, 1), disabled: step.length < 2})
  // Moving it draws the step.
  if (slider.value !== place) { slider.value = place; return }
}
const at = slider.value
// The picture.
note.text = every.data.note[at]
slider.title = `step ${step[at].toLocaleString("en")}, ${step.length > 1 ? "choose another" : "the only one"}`
