// Creates the replica set of one member, and the services' user with the rights that they need. Run again, it creates
// nothing, and gives the user the present password of its secret.
const fs = require("fs");
const secret = (name) => fs.readFileSync(`/run/secrets/${name}`, "utf8").trim();

const admin = db.getSiblingDB("admin");
admin.auth("root", secret("mongodb_root_password"));
try {
  rs.status();
} catch (error) {
  if (error.codeName !== "NotYetInitialized") throw error;
  rs.initiate({ _id: "rs0", members: [{ _id: 0, host: "mongodb:27017" }] });
}
while (!admin.hello().isWritablePrimary) sleep(500);

const login = {
  pwd: secret("mongodb_password"),
  roles: ["AG", "logs"].map((name) => ({ role: "readWrite", db: name })),
};
if (admin.getUser("broadway")) admin.updateUser("broadway", login);
else admin.createUser({ user: "broadway", ...login });
