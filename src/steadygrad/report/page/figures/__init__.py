"""One picture a file: prepared arrays in, Bokeh models out."""
