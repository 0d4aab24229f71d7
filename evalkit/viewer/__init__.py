"""`evalkit report`: runs as pages that open from disk, with every sample's picture, answers and scores."""
