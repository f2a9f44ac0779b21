#!/bin/sh
yes >&2
