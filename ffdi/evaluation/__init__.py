"""What a trained recipe is worth."""
