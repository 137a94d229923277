"""What a reviewer wants to know of a catalog, or of two: pure, and only from the evaluator that fires."""
