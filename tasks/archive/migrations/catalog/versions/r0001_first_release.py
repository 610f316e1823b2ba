"""First release of the catalog."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "assignments",
        sa.Column("split_id", sa.String(length=32), nullable=False),
        sa.Column("patient_key", sa.String(length=32), nullable=False),
        sa.Column("turn", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("side", sa.String(length=8), nullable=False),
        sa.Column("edition", sa.Integer(), nullable=False),
        sa.Column("fold", sa.Integer(), nullable=True),
        sa.Column("stratum", sa.Text(), nullable=False),
        sa.Column("at", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "side IN ('train', 'test', 'reserve')", name=op.f("ck_assignments_side")
        ),
        sa.PrimaryKeyConstraint("split_id", "patient_key", "turn", name=op.f("pk_assignments")),
    )
    op.create_index(
        op.f("ix_assignments_patient_key"), "assignments", ["patient_key"], unique=False
    )
    op.create_table(
        "edition_uses",
        sa.Column("split_id", sa.String(length=32), nullable=False),
        sa.Column("edition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("at", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint(
            "split_id", "edition", "run_id", "purpose", name=op.f("pk_edition_uses")
        ),
    )
    op.create_table(
        "editions",
        sa.Column("split_id", sa.String(length=32), nullable=False),
        sa.Column("edition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("n_patients", sa.Integer(), nullable=False),
        sa.Column("at", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("split_id", "edition", name=op.f("pk_editions")),
    )
    op.create_table(
        "label_sets",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("label_set_id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("n_rows", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_label_sets")),
        sa.UniqueConstraint("label_set_id", name=op.f("uq_label_sets_label_set_id")),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("heartbeat", sa.Double(), nullable=False),
        sa.Column("ttl_s", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
    op.create_table(
        "quarantine",
        sa.Column("quarantine_id", sa.String(length=32), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("locator", sa.BigInteger(), nullable=True),
        sa.Column("case_id", sa.String(length=32), nullable=True),
        sa.Column("recipe_id", sa.String(length=32), nullable=True),
        sa.Column("at", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("quarantine_id", name=op.f("pk_quarantine")),
    )
    op.create_index(op.f("ix_quarantine_case_id"), "quarantine", ["case_id"], unique=False)
    op.create_index(op.f("ix_quarantine_reason"), "quarantine", ["reason"], unique=False)
    op.create_table(
        "recipes",
        sa.Column("recipe_id", sa.String(length=32), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("fitted_on", sa.Text(), nullable=False),
        sa.Column("at", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("recipe_id", name=op.f("pk_recipes")),
    )
    op.create_table(
        "series",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("series_key", sa.String(length=32), nullable=False),
        sa.Column("study_key", sa.String(length=32), nullable=False),
        sa.Column("patient_key", sa.String(length=32), nullable=False),
        sa.Column("accession_key", sa.String(length=32), nullable=True),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("series_version", sa.String(length=32), nullable=False),
        sa.Column("case_id", sa.String(length=32), nullable=False),
        sa.Column("n_instances", sa.Integer(), nullable=False),
        sa.Column("facts_from", sa.LargeBinary(), nullable=False),
        sa.Column("modality", sa.Text(), nullable=True),
        sa.Column("body_part", sa.Text(), nullable=True),
        sa.Column("laterality", sa.Text(), nullable=True),
        sa.Column("view", sa.Text(), nullable=True),
        sa.Column("sex", sa.Text(), nullable=True),
        sa.Column("age_band", sa.Text(), nullable=True),
        sa.Column("manufacturer", sa.Text(), nullable=True),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("device", sa.Text(), nullable=True),
        sa.Column("site", sa.Text(), nullable=True),
        sa.Column("kernel", sa.Text(), nullable=True),
        sa.Column("kvp", sa.Double(), nullable=True),
        sa.Column("exposure", sa.Double(), nullable=True),
        sa.Column("field_strength", sa.Double(), nullable=True),
        sa.Column("sequence", sa.Text(), nullable=True),
        sa.Column("tr", sa.Double(), nullable=True),
        sa.Column("te", sa.Double(), nullable=True),
        sa.Column("ti", sa.Double(), nullable=True),
        sa.Column("contrast", sa.Boolean(), nullable=True),
        sa.Column("slice_thickness", sa.Double(), nullable=True),
        sa.Column("spacing_row", sa.Double(), nullable=True),
        sa.Column("spacing_col", sa.Double(), nullable=True),
        sa.Column("rows", sa.Integer(), nullable=True),
        sa.Column("cols", sa.Integer(), nullable=True),
        sa.Column("frames", sa.Integer(), nullable=True),
        sa.Column("presentation", sa.Text(), nullable=True),
        sa.Column("burned_in", sa.Boolean(), nullable=True),
        sa.Column("transfer_syntax", sa.Text(), nullable=True),
        sa.Column("photometric", sa.Text(), nullable=True),
        sa.Column("date", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_series")),
        sa.UniqueConstraint("series_key", name=op.f("uq_series_series_key")),
    )
    op.create_index(op.f("ix_series_accession_key"), "series", ["accession_key"], unique=False)
    op.create_index(op.f("ix_series_case_id"), "series", ["case_id"], unique=False)
    op.create_index(op.f("ix_series_patient_key"), "series", ["patient_key"], unique=False)
    op.create_index(op.f("ix_series_study_key"), "series", ["study_key"], unique=False)
    op.create_table(
        "superseded_cases",
        sa.Column("case_id", sa.String(length=32), nullable=False),
        sa.Column("series_key", sa.String(length=32), nullable=False),
        sa.Column("patient_key", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("case_id", name=op.f("pk_superseded_cases")),
    )
    op.create_index(
        op.f("ix_superseded_cases_series_key"), "superseded_cases", ["series_key"], unique=False
    )
    op.create_table(
        "table_rows",
        sa.Column("case_id", sa.String(length=32), nullable=False),
        sa.Column("table_name", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("patient_key", sa.String(length=32), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("case_id", name=op.f("pk_table_rows")),
    )
    op.create_index(op.f("ix_table_rows_patient_key"), "table_rows", ["patient_key"], unique=False)
    op.create_index(op.f("ix_table_rows_table_name"), "table_rows", ["table_name"], unique=False)
    op.create_table(
        "instances",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("series_id", ROW_ID, nullable=False),
        sa.Column("sop_key", sa.LargeBinary(), nullable=False),
        sa.Column("position", sa.Double(), nullable=True),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("locator", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["series_id"], ["series.id"], name=op.f("fk_instances_series_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instances")),
        sa.UniqueConstraint("sop_key", name=op.f("uq_instances_sop_key")),
    )
    op.create_index(op.f("ix_instances_series_id"), "instances", ["series_id"], unique=False)
    op.create_table(
        "label_rows",
        sa.Column("label_set", ROW_ID, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("join", sa.String(length=16), nullable=False),
        sa.Column("key", sa.String(length=32), nullable=False),
        sa.Column("value", sa.Text(), nullable=True),
        sa.Column("locator", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["label_set"], ["label_sets.id"], name=op.f("fk_label_rows_label_set")
        ),
        sa.PrimaryKeyConstraint("label_set", "number", name=op.f("pk_label_rows")),
    )
    op.create_table(
        "label_set_log",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("label_set", ROW_ID, nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("at", sa.Text(), nullable=False),
        sa.Column("supersedes", sa.String(length=32), nullable=True),
        sa.ForeignKeyConstraint(
            ["label_set"], ["label_sets.id"], name=op.f("fk_label_set_log_label_set")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_label_set_log")),
    )
    op.create_index(
        op.f("ix_label_set_log_label_set"), "label_set_log", ["label_set"], unique=False
    )
    op.create_table(
        "parts",
        sa.Column("part_id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("recipe_id", sa.String(length=32), nullable=False),
        sa.Column("label_set_id", sa.String(length=32), nullable=True),
        sa.Column("image_part_id", sa.String(length=32), nullable=True),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("at", sa.Text(), nullable=False),
        sa.CheckConstraint("kind IN ('image', 'label')", name=op.f("ck_parts_kind")),
        sa.ForeignKeyConstraint(
            ["image_part_id"], ["parts.part_id"], name=op.f("fk_parts_image_part_id")
        ),
        sa.ForeignKeyConstraint(
            ["label_set_id"], ["label_sets.label_set_id"], name=op.f("fk_parts_label_set_id")
        ),
        sa.ForeignKeyConstraint(
            ["recipe_id"], ["recipes.recipe_id"], name=op.f("fk_parts_recipe_id")
        ),
        sa.PrimaryKeyConstraint("part_id", name=op.f("pk_parts")),
    )
    op.create_index(op.f("ix_parts_image_part_id"), "parts", ["image_part_id"], unique=False)
    op.create_index(op.f("ix_parts_label_set_id"), "parts", ["label_set_id"], unique=False)
    op.create_index(op.f("ix_parts_recipe_id"), "parts", ["recipe_id"], unique=False)
    op.create_table(
        "recipe_generations",
        sa.Column("scenario", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("recipe_id", sa.String(length=32), nullable=False),
        sa.Column("at", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["recipe_id"], ["recipes.recipe_id"], name=op.f("fk_recipe_generations_recipe_id")
        ),
        sa.PrimaryKeyConstraint("scenario", "generation", name=op.f("pk_recipe_generations")),
    )
    op.create_index(
        op.f("ix_recipe_generations_recipe_id"), "recipe_generations", ["recipe_id"], unique=False
    )
    op.create_table(
        "work",
        sa.Column("recipe_id", sa.String(length=32), nullable=False),
        sa.Column("case_id", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.CheckConstraint(
            "state IN ('pending', 'done', 'quarantined', 'superseded')", name=op.f("ck_work_state")
        ),
        sa.ForeignKeyConstraint(
            ["recipe_id"], ["recipes.recipe_id"], name=op.f("fk_work_recipe_id")
        ),
        sa.PrimaryKeyConstraint("recipe_id", "case_id", name=op.f("pk_work")),
    )
    op.create_index(op.f("ix_work_case_id"), "work", ["case_id"], unique=False)
    op.create_index(
        "ix_work_pending",
        "work",
        ["recipe_id", "case_id"],
        unique=False,
        sqlite_where=sa.text("state = 'pending'"),
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_table(
        "part_cases",
        sa.Column("part_id", sa.String(length=32), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("case_id", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["part_id"], ["parts.part_id"], name=op.f("fk_part_cases_part_id")),
        sa.PrimaryKeyConstraint("part_id", "number", name=op.f("pk_part_cases")),
    )
    op.create_index(op.f("ix_part_cases_case_id"), "part_cases", ["case_id"], unique=False)


def downgrade() -> None:
    """Remove them."""
    op.drop_index(op.f("ix_part_cases_case_id"), table_name="part_cases")
    op.drop_table("part_cases")
    op.drop_index(
        "ix_work_pending",
        table_name="work",
        sqlite_where=sa.text("state = 'pending'"),
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.drop_index(op.f("ix_work_case_id"), table_name="work")
    op.drop_table("work")
    op.drop_index(op.f("ix_recipe_generations_recipe_id"), table_name="recipe_generations")
    op.drop_table("recipe_generations")
    op.drop_index(op.f("ix_parts_recipe_id"), table_name="parts")
    op.drop_index(op.f("ix_parts_label_set_id"), table_name="parts")
    op.drop_index(op.f("ix_parts_image_part_id"), table_name="parts")
    op.drop_table("parts")
    op.drop_index(op.f("ix_label_set_log_label_set"), table_name="label_set_log")
    op.drop_table("label_set_log")
    op.drop_table("label_rows")
    op.drop_index(op.f("ix_instances_series_id"), table_name="instances")
    op.drop_table("instances")
    op.drop_index(op.f("ix_table_rows_table_name"), table_name="table_rows")
    op.drop_index(op.f("ix_table_rows_patient_key"), table_name="table_rows")
    op.drop_table("table_rows")
    op.drop_index(op.f("ix_superseded_cases_series_key"), table_name="superseded_cases")
    op.drop_table("superseded_cases")
    op.drop_index(op.f("ix_series_study_key"), table_name="series")
    op.drop_index(op.f("ix_series_patient_key"), table_name="series")
    op.drop_index(op.f("ix_series_case_id"), table_name="series")
    op.drop_index(op.f("ix_series_accession_key"), table_name="series")
    op.drop_table("series")
    op.drop_table("recipes")
    op.drop_index(op.f("ix_quarantine_reason"), table_name="quarantine")
    op.drop_index(op.f("ix_quarantine_case_id"), table_name="quarantine")
    op.drop_table("quarantine")
    op.drop_table("leases")
    op.drop_table("label_sets")
    op.drop_table("editions")
    op.drop_table("edition_uses")
    op.drop_index(op.f("ix_assignments_patient_key"), table_name="assignments")
    op.drop_table("assignments")
