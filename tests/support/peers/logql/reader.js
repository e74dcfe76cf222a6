// Reads queries from standard input, a JSON array of strings; writes what it makes of each: where it
// stopped understanding, if anywhere, and the names of the labels that the query speaks of.
const { readFileSync } = require("fs");
const { parser } = require("@grafana/lezer-logql");

const read = (query) => {
  const errors = [];
  const names = new Set();
  parser.parse(query).iterate({
    enter: (node) => {
      const text = query.slice(node.from, node.to);
      if (node.type.isError) errors.push(query.slice(Math.max(0, node.from - 20), node.to + 20));
      if (node.name === "Identifier") names.add(text);
    },
  });
  return { errors, names: [...names] };
};

const queries = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify(queries.map(read)));
