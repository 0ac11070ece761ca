"""Opening, describing and writing volumes; masks; importers."""
