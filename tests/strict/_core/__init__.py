"""cupy._core, of which minivae uses one switch."""
