"""CS231n's networks: neural_net (assignment 1), fc_net and cnn (assignment 2), built from the layers of the rooms above."""
