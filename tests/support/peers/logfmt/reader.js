// Reads logfmt lines on stdin as the npm package logfmt does and prints one JSON object a line.
"use strict";

const logfmt = require("logfmt");
const readline = require("node:readline");

// readline also breaks lines at a lone CR, U+2028 and U+2029, so a raw one of them would show here.
readline.createInterface({ input: process.stdin }).on("line", (line) => {
  process.stdout.write(JSON.stringify(logfmt.parse(line)) + "\n");
});
