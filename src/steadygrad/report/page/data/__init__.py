"""What the page draws, as plain arrays: numpy only, no Bokeh, no HTML."""
