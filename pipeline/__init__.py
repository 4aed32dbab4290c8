"""What a backup is: how it is made, kept, checked and brought back."""
