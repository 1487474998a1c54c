"""Pictures of the page for the documentation, made in the lab on a farm that looks as farms do."""
