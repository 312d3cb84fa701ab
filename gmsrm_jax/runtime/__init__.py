"""What every room stands on: errors, files, log, processes, signals, devices; knows nobody."""

import os

# Before TensorFlow is imported, for every room stands on this one; child processes get it too. What
# goes wrong in its C++ is raised as an exception all the same. Of oneDNN it is silent only without
# it, and here it only reads pictures.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
