"""What replay asks of the world: files, and the production pickers with their bus."""
