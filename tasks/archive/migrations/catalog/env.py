"""Run the catalog's migrations on the connection that ``open_catalog`` hands over."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
