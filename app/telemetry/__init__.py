"""What the app tells about itself."""
