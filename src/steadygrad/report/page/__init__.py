"""A run as a page: prepared arrays, pictures, one HTML file. Needs Bokeh, never torch.

``render(run, findings=None) -> str``                 the whole page, self-contained
``render_pair(one, other) -> str``                    two runs side by side
``plot(run) -> Column``                               the pictures alone, for a notebook
``page(run, findings=None) -> (dict, [Section])``     words and pictures before they become HTML, for a server

Below that, each step takes the result of the one before (``page/data`` knows no Bokeh):

``data.course.course(run) -> Course``                 ``figures.course.course_sketch(course, cards) -> Sketch``
``data.raster.raster(run) -> Raster``                 ``figures.heat.heat_sketch(raster) -> Sketch``
``data.depth.snowball(raster, findings) -> Snowball`` ``figures.snowball.snowball_sketch(snowball) -> Sketch``
``data.updates.updates(run) -> Updates``              ``figures.updates.updates_sketch(updates) -> Sketch``
``data.passages.passages(looks) -> Passages``          ``figures.through_time.through_time_sketch(passages) -> Sketch``
``data.health.health(run) -> Health``                 ``figures.health.health_sketch(health) -> Sketch``
``figures.sketch.Sketch.draw(steps)``                  the models, over ``figures.look.step_range(buckets)``, which all share

``document.page_template("report.html")`` and ``document.variables(words)`` are what a Bokeh document
takes as ``template`` and ``template_variables``; every root has the name that the template asks for.
"""

from steadygrad.report.page.render import page, plot, render, render_pair

__all__ = ["page", "plot", "render", "render_pair"]
