"""The dashboard at `/ui`: a page of ours without a build step; it loads nothing from elsewhere."""
