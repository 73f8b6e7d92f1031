"""A page that shows what the model makes of a photograph, in the browser."""
