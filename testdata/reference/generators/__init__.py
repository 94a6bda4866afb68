"""The vectors of each profile, as modules with a function `build` that returns them by section."""
