"""Data: finding cases, reading, preparing, splits, units, feeds, augmentation. Import the modules you need."""
