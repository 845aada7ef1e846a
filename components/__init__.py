"""The steps of the Wiki-GPT pipeline: each a folder with its KFP interface and the library below it."""

# The image that a step runs in unless the pipeline is compiled for another. kfp.local's SubprocessRunner wants "python"
# in the name of an image whose steps it runs in processes.
BASE_IMAGE = "wikigpt-python:dev"
