"""What an experiment is: its values, how they are built, and the ids that follow from them."""
