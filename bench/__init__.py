"""What is measured, against what: figures are printed with their ratios, never asserted."""
