"""What a score came from: heat map and occlusion, as a picture and as a page."""
