"""What the documentation has from the code: tables, the picture, and the checks that both are true."""
