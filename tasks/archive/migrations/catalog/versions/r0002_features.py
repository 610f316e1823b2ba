"""What recipes measured in images."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "feature_columns",
        sa.Column("recipe_id", sa.String(length=32), nullable=False),
        sa.Column("names", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["recipe_id"], ["recipes.recipe_id"], name=op.f("fk_feature_columns_recipe_id")
        ),
        sa.PrimaryKeyConstraint("recipe_id", name=op.f("pk_feature_columns")),
    )
    op.create_table(
        "feature_rows",
        sa.Column("recipe_id", sa.String(length=32), nullable=False),
        sa.Column("case_id", sa.String(length=32), nullable=False),
        sa.Column("numbers", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["recipe_id"], ["recipes.recipe_id"], name=op.f("fk_feature_rows_recipe_id")
        ),
        sa.PrimaryKeyConstraint("recipe_id", "case_id", name=op.f("pk_feature_rows")),
    )
    op.create_index(op.f("ix_feature_rows_case_id"), "feature_rows", ["case_id"], unique=False)


def downgrade() -> None:
    """Drop them."""
    op.drop_index(op.f("ix_feature_rows_case_id"), table_name="feature_rows")
    op.drop_table("feature_rows")
    op.drop_table("feature_columns")
