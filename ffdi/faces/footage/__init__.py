"""Videos -> frames: the only room that knows PyAV."""
