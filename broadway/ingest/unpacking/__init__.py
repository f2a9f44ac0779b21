"""Archives that students hand in, checked and unpacked in a limited process of their own."""
