-- One database a service, so that each can be backed up and moved alone.
create database catalog;
create database vault;
create database prefect;
create database mlflow;
