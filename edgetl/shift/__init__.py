"""How far data is from what a network was trained on: distances, single images, accuracy, advice."""
