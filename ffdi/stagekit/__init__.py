"""What the stage scripts share: options, one-line errors, messages, progress, stopwatch."""
