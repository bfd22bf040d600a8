"""Model files: one module per format, the catalogue of named models, and how they are fetched."""
