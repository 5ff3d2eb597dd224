"""What computes prompts; nothing here knows SAM."""
