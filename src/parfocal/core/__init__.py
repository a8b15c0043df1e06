"""The mathematics and what a call was given, on NumPy alone; nothing here imports a framework."""
