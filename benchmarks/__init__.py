"""What the project's speed and memory is measured with; RESULTS.md says what was found."""
