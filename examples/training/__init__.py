"""What `examples/train.py` is made of: readers of data sets, augmentation, schedule, tasks, and the course itself."""
