"""Boxes, masks, run-length codes and point mining: numpy, OpenCV and pycocotools, no deep-learning library."""
