"""Run by Alembic: applies migrations over the connection that `upgrade` opened."""

from alembic import context

from macbind.registry.tables import metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True
)
context.run_migrations()
