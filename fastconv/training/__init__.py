"""`fastconv train`: a network of the course, trained on real images, with checkpoint, history and picture. Needs the extra `examples`."""
