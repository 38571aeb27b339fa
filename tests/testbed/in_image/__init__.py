"""Programs that tests run inside images, with the images' own Python."""
