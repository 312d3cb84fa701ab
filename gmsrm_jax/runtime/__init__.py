"""What every room stands on: errors, files, log, processes, signals, devices; knows nobody."""
